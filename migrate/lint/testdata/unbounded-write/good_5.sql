-- +goose Up
insert into currencies (code, digits) values ('CHF', 2) on conflict (code) do update set digits = excluded.digits;
