-- +goose Up
-- landlord: allow=drop-table it is not used
select 1;
