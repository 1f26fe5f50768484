-- +goose Up
insert into currencies select 'X' || n, 2 from generate_series(1, 3) n;
