-- +goose Up
set local lock_timeout = '1min';
