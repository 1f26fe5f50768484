-- landlord: phase=contract
-- +goose Up
drop table orders;
