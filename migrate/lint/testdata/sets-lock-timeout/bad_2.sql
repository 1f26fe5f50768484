-- +goose Up
set statement_timeout = 0;
