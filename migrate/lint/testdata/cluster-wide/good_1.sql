-- landlord: scope=server
-- +goose Up
create role reporting;
