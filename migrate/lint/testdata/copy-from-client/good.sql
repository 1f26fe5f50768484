-- +goose Up
insert into orders (note) values ('x');
