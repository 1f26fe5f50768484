-- landlord: phase=contract
-- +goose Up
drop view customer_names;
