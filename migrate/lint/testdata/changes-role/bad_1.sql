-- +goose Up
set role app;
