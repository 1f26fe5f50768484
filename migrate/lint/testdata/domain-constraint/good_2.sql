-- +goose Up
alter domain positive add constraint c check (value > 1) not valid;
