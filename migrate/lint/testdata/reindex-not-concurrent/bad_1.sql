-- +goose Up
reindex table orders;
