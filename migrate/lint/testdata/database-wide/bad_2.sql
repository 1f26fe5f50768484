-- +goose Up
create publication p for table orders;
