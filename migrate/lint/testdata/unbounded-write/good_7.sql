-- +goose Up
with new (code) as (values ('CHF')) insert into currencies select code, 2 from new;
