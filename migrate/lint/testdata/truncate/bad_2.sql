-- landlord: phase=contract
-- +goose Up
truncate table only tiny, orders cascade;
