-- +goose Up
set local work_mem = '64MB';
