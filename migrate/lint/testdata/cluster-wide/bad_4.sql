-- landlord: scope=database
-- +goose Up
create role reporting;
