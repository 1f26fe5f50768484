-- landlord: phase=validate
-- +goose Up
-- Reads all rows while everybody goes on.
alter table customers validate constraint customers_full_name_given;
