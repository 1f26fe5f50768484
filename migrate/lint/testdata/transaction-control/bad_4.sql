-- +goose Up
savepoint s;
