-- +goose Up
update currencies set digits = 2 where code = 'set role app';
