-- +goose Up
alter policy mine on orders to public;
