-- landlord: phase=contract
-- +goose Up
drop schema if exists old cascade;
