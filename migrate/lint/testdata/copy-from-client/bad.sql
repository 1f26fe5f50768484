-- +goose Up
copy orders from stdin;
