-- +goose Up
delete from orders;
