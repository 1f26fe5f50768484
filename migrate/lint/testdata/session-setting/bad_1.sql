-- +goose Up
set time zone 'UTC';
