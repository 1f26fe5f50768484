-- +goose Up
grant reporting to app;
