-- +goose Up
grant select on orders to landlord_admin;
