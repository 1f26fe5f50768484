-- +goose Up
create schema app;
