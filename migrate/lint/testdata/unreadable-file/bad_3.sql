-- +goose Up
-- landlord: fase=contract
select 1;
