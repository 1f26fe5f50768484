-- +goose Up
set session authorization app;
