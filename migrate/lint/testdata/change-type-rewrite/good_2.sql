-- +goose Up
alter table customers alter column name type text, alter column score type numeric(12, 2), alter column born type timestamptz;
