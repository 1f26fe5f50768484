-- +goose Up
grant select (id) on orders to landlord_app;
