-- +goose Up
alter domain positive add constraint c check (value > 1);
