-- +goose Up
drop view if exists customer_names;
