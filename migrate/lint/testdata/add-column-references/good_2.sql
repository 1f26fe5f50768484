-- +goose Up
alter table orders add constraint known foreign key (code) references currencies (code) not valid;
