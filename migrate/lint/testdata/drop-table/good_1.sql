-- landlord: phase=contract
-- +goose Up
drop table tiny;
