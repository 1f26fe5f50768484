-- landlord: scope=server
-- +goose Up
create extension citext;
