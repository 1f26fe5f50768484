-- +goose Up
create role reporting;
