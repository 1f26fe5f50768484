-- +goose Up
update currencies set digits = 3 where code = 'EUR';
