-- +goose Up
with gone as (delete from orders where id > 5 returning note) insert into tiny (name) select note from gone;
