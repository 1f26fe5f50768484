-- +goose Up
delete from currencies where code in ('EUR', 'JPY') and digits = 2;
