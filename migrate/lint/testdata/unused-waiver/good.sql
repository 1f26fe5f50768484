-- +goose Up
-- landlord: allow=drop-table it was never filled
drop table tiny;
