-- +goose Up
drop index if exists somewhere;
