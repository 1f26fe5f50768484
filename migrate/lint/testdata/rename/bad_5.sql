-- +goose Up
alter view customer_names rename to names;
