-- landlord: phase=contract
-- +goose Up
alter table customers alter email drop not null;
