-- +goose Up
select 1; /* never closed;
