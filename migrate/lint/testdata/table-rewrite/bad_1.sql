-- +goose Up
alter table orders set unlogged;
