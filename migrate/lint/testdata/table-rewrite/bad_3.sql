-- +goose Up
cluster orders using orders_pkey;
