-- +goose Up
alter type mood add value 'glad' before 'happy';
insert into tiny (name) values ('glad');
