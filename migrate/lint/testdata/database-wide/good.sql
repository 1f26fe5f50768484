-- landlord: scope=database
-- +goose Up
create extension if not exists citext;
