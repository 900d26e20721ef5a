"""Countries and their capitals, as `country: capital`."""

_TABLE = """
Afghanistan: Kabul | Albania: Tirana | Algeria: Algiers | Andorra: Andorra la Vella
Angola: Luanda | Argentina: Buenos Aires | Armenia: Yerevan | Australia: Canberra
Austria: Vienna | Azerbaijan: Baku | Bahrain: Manama | Bangladesh: Dhaka | Belarus: Minsk
Belgium: Brussels | Bhutan: Thimphu | Bosnia and Herzegovina: Sarajevo | Botswana: Gaborone
Brazil: Brasília | Bulgaria: Sofia | Cambodia: Phnom Penh | Cameroon: Yaoundé | Canada: Ottawa
Chile: Santiago | China: Beijing | Colombia: Bogotá | Costa Rica: San José | Croatia: Zagreb
Cuba: Havana | Cyprus: Nicosia | the Czech Republic: Prague | Denmark: Copenhagen
the Dominican Republic: Santo Domingo | Ecuador: Quito | Egypt: Cairo | El Salvador: San Salvador
Estonia: Tallinn | Ethiopia: Addis Ababa | Fiji: Suva | Finland: Helsinki | France: Paris
Georgia: Tbilisi | Germany: Berlin | Ghana: Accra | Greece: Athens | Guatemala: Guatemala City
Haiti: Port-au-Prince | Honduras: Tegucigalpa | Hungary: Budapest | Iceland: Reykjavík
India: New Delhi | Indonesia: Jakarta | Iran: Tehran | Iraq: Baghdad | Ireland: Dublin
Italy: Rome | Jamaica: Kingston | Japan: Tokyo | Jordan: Amman | Kazakhstan: Astana
Kenya: Nairobi | Kuwait: Kuwait City | Laos: Vientiane | Latvia: Riga | Lebanon: Beirut
Libya: Tripoli | Liechtenstein: Vaduz | Lithuania: Vilnius | Luxembourg: Luxembourg
Madagascar: Antananarivo | Malaysia: Kuala Lumpur | Maldives: Malé | Mali: Bamako | Malta: Valletta
Mexico: Mexico City | Moldova: Chișinău | Monaco: Monaco | Mongolia: Ulaanbaatar
Montenegro: Podgorica | Morocco: Rabat | Mozambique: Maputo | Namibia: Windhoek
Nepal: Kathmandu | the Netherlands: Amsterdam | New Zealand: Wellington | Nicaragua: Managua
Nigeria: Abuja | North Korea: Pyongyang | North Macedonia: Skopje | Norway: Oslo | Oman: Muscat
Pakistan: Islamabad | Panama: Panama City | Paraguay: Asunción | Peru: Lima
the Philippines: Manila | Poland: Warsaw | Portugal: Lisbon | Qatar: Doha | Romania: Bucharest
Russia: Moscow | Rwanda: Kigali | Saudi Arabia: Riyadh | Senegal: Dakar | Serbia: Belgrade
Singapore: Singapore | Slovakia: Bratislava | Slovenia: Ljubljana | Somalia: Mogadishu
South Korea: Seoul | Spain: Madrid | Sudan: Khartoum | Sweden: Stockholm | Switzerland: Bern
Syria: Damascus | Taiwan: Taipei | Thailand: Bangkok | Tunisia: Tunis | Turkey: Ankara
Uganda: Kampala | Ukraine: Kyiv | the United Arab Emirates: Abu Dhabi
the United Kingdom: London | the United States: Washington, D.C. | Uruguay: Montevideo
Uzbekistan: Tashkent | Venezuela: Caracas | Vietnam: Hanoi | Yemen: Sanaa | Zambia: Lusaka
Zimbabwe: Harare
"""

CAPITALS: dict[str, str] = dict(
    entry.strip().split(": ", 1)
    for line in _TABLE.strip().splitlines()
    for entry in line.split("|")
)

# What else people call a country; the answer uses the name in the table.
OTHER_NAMES: dict[str, str] = {
    "the UK": "the United Kingdom",
    "Great Britain": "the United Kingdom",
    "the USA": "the United States",
    "the US": "the United States",
    "the United States of America": "the United States",
    "Holland": "the Netherlands",
    "Czechia": "the Czech Republic",
    "the UAE": "the United Arab Emirates",
}
