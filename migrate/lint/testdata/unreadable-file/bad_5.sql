-- +goose Up
select 'open;
