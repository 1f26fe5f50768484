-- landlord: scope=server
-- +goose NO TRANSACTION
-- +goose Up
drop database old;
