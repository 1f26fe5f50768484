-- +goose Up
alter table orders add column "ääääääääääääääääääääääääääääääää" text;
