-- +goose Up
drop table tiny;
