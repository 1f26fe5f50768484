-- +goose Up
set search_path = app;
