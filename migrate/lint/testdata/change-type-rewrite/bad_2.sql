-- +goose Up
alter table orders alter note type varchar(10);
