-- +goose Up
drop table if exists tiny;
